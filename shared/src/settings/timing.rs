//! The settings of the queue's timing. All processes of a fleet must agree on them.

use super::reader::Reader;
use super::setting::Setting;
use super::variables;
use crate::queue::Timing;

static ACK_WAIT: Setting = Setting::variable(&[&variables::QA_ACK_WAIT]);
static PRESENCE_AGE: Setting = Setting::variable(&[&variables::QA_PRESENCE_AGE]);

/// Reads them; what has no setting keeps its default.
pub fn read_timing(reader: &mut Reader<'_>) -> Timing {
    Timing {
        ack_wait: reader.duration(&ACK_WAIT, None),
        presence_age: reader.duration(&PRESENCE_AGE, None),
        ..Timing::default()
    }
}
