//! Tells from a server's log that a write failed: its disk was full, or could not be written. From then on a
//! stream stores nothing, also when the disk is well again: the server has to be started anew, and nobody but its
//! log says so.
//!
//! It must not know what follows from that.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

/// How often to look.
const LOOK: Duration = Duration::from_secs(1);
/// What the server says of a stream that it has given up, whatever the cause, and what the system says of a write.
const SIGNS: [&str; 4] =
    ["critical write error", "no space left on device", "quota exceeded", "read-only file system"];

/// A log of which only what comes from now on counts.
#[derive(Debug)]
pub(super) struct LogWatch {
    log: PathBuf,
    read: u64,
}

impl LogWatch {
    pub(super) fn new(log: PathBuf) -> Self {
        let read = std::fs::metadata(&log).map_or(0, |data| data.len());
        Self { log, read }
    }

    /// Completes when the log says that a write failed; with the line.
    pub(super) async fn write_failure(mut self) -> String {
        loop {
            // A log that cannot be read at the moment says nothing at the moment.
            if let Ok(Some(line)) = self.look() {
                return line;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn look(&mut self) -> io::Result<Option<String>> {
        let mut file = File::open(&self.log)?;
        if file.metadata()?.len() < self.read {
            // Somebody has emptied it.
            self.read = 0;
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut new = Vec::new();
        file.read_to_end(&mut new)?;
        // A line that is not whole yet is read again.
        new.truncate(new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        self.read += new.len() as u64;
        let is_sign = |line: &&str| SIGNS.iter().any(|sign| line.to_ascii_lowercase().contains(sign));
        Ok(String::from_utf8_lossy(&new).lines().find(is_sign).map(|line| line.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SIGN: &str = "[8362] 2026/11/23 [ERR] Filestore [QA_RESULTS] Critical write error: write 1.blk: no \
                        space left on device";

    #[test]
    fn a_failed_write_is_seen_in_a_whole_new_line_and_an_earlier_server_s_is_not() {
        let folder = crate::testing::temporary_folder();
        let path = folder.path().join("nats-server.log");
        std::fs::write(&path, format!("{SIGN}\n")).unwrap();
        let mut watch = LogWatch::new(path.clone());
        assert_eq!(watch.look().unwrap(), None);
        let mut log = File::options().append(true).open(&path).unwrap();
        write!(log, "[INF] Server is ready\n{SIGN}").unwrap();
        assert_eq!(watch.look().unwrap(), None);
        writeln!(log).unwrap();
        assert_eq!(watch.look().unwrap().as_deref(), Some(SIGN));
        assert_eq!(watch.look().unwrap(), None);
    }

    #[test]
    fn a_log_that_began_anew_is_read_from_its_begin() {
        let folder = crate::testing::temporary_folder();
        let path = folder.path().join("nats-server.log");
        std::fs::write(&path, "long ago\n".repeat(100)).unwrap();
        let mut watch = LogWatch::new(path.clone());
        std::fs::write(&path, format!("{SIGN}\n")).unwrap();
        assert!(watch.look().unwrap().is_some());
    }

    #[test]
    fn a_stream_that_was_given_up_is_seen_whatever_the_cause() {
        let folder = crate::testing::temporary_folder();
        let path = folder.path().join("nats-server.log");
        let mut watch = LogWatch::new(path.clone());
        let line = "[12695] 2026/11/23 [ERR] Filestore [KV_QA_PRESENCE] Critical write error: lmb missing";
        std::fs::write(&path, format!("[INF] Server is ready\n{line}\n")).unwrap();
        assert_eq!(watch.look().unwrap().as_deref(), Some(line));
    }
}
