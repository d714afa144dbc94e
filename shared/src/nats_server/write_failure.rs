//! Finds signs of a failed write in a private server's log. After such a write (its disk was full, or could not be
//! written) a stream stores nothing, also when the disk is well again. The server has to be started anew, and only
//! its log says so by itself.
//!
//! A sign is no proof. The log also quotes what strangers send to the port before they have shown a token. So lines
//! about connections are no signs, and whoever acts on a sign asks the server first.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

/// How often to look.
const LOOK: Duration = Duration::from_secs(1);
/// What the server says of a stream that it has given up or of a message that it did not store, whatever the
/// cause, and what the system says of a write.
const SIGNS: [&str; 7] = [
    "critical write error",
    "failed to store a msg",
    "no space left on device",
    "quota exceeded",
    "read-only file system",
    "input/output error",
    "file too large",
];
/// The levels of lines that report a failure.
const LEVELS: [&str; 3] = ["[ERR]", "[WRN]", "[FTL]"];
/// A longer line is none of the server's own, in bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// A log of which only what comes from now on counts.
#[derive(Debug)]
pub(super) struct LogWatch {
    log: PathBuf,
    read: u64,
    /// What comes next is the rest of a line that was too long.
    in_long_line: bool,
}

impl LogWatch {
    pub(super) fn new(log: PathBuf) -> Self {
        let read = std::fs::metadata(&log).map_or(0, |data| data.len());
        Self { log, read, in_long_line: false }
    }

    /// Completes with the next line that tells of a failed write. Dropping the future loses no line.
    pub(super) async fn sign_of_write_failure(&mut self) -> String {
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
            // It was emptied, or a new file was begun.
            self.read = 0;
            self.in_long_line = false;
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut log = BufReader::new(file);
        loop {
            let mut line = Vec::new();
            let length = log.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? as u64;
            let is_whole = line.ends_with(b"\n");
            if !is_whole && length < LONGEST_LINE {
                // A line that is not whole yet is read again.
                return Ok(None);
            }
            self.read += length;
            let is_rest = std::mem::replace(&mut self.in_long_line, !is_whole);
            let line = String::from_utf8_lossy(&line);
            if is_whole && !is_rest && is_sign(&line) {
                return Ok(Some(line.trim().to_owned()));
            }
        }
    }
}

/// Whether a line is the server's own and tells of a failed write.
fn is_sign(line: &str) -> bool {
    message(line).is_some_and(|message| {
        let lower = message.to_ascii_lowercase();
        !is_about_connection(message) && SIGNS.iter().any(|sign| lower.contains(sign))
    })
}

/// What a line reports as a failure: `[PID] DATE TIME [LEVEL] MESSAGE`.
fn message(line: &str) -> Option<&str> {
    let mut parts = line.splitn(5, ' ');
    let (pid, date, time) = (parts.next()?, parts.next()?, parts.next()?);
    let is_pid = pid.strip_prefix('[').and_then(|pid| pid.strip_suffix(']')).is_some_and(is_number);
    let is_clock = |text: &str, separator: char| text.split(separator).count() == 3;
    let is_head = is_pid && is_clock(date, '/') && is_clock(time, ':') && LEVELS.contains(&parts.next()?);
    if is_head { parts.next() } else { None }
}

/// Lines about a connection begin with its address and its number, such as `127.0.0.1:58536 - cid:12 - `. The rest
/// may quote what the other side sent.
fn is_about_connection(message: &str) -> bool {
    let number = message.split(" - ").nth(1).and_then(|part| part.split_once("id:"));
    number.is_some_and(|(kind, number)| kind.len() <= 2 && is_number(number))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const SIGN: &str = "[8362] 2026/11/23 05:33:38.632257 [ERR] Filestore [QA_RESULTS] Critical write error: write \
                        1.blk: no space left on device";

    fn append(path: &Path, text: &str) {
        File::options().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_failed_write_is_seen_in_a_whole_new_line_and_an_earlier_server_s_is_not() {
        let folder = crate::testing::temporary_folder();
        let path = folder.path().join("nats-server.log");
        std::fs::write(&path, format!("{SIGN}\n")).unwrap();
        let mut watch = LogWatch::new(path.clone());
        assert_eq!(watch.look().unwrap(), None);
        append(&path, &format!("[8362] 2026/11/23 05:33:38.632257 [INF] Server is ready\n{SIGN}"));
        assert_eq!(watch.look().unwrap(), None);
        append(&path, "\n");
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
    fn every_line_of_a_log_that_tells_of_failed_writes_is_given_one_after_the_other() {
        let folder = crate::testing::temporary_folder();
        let path = folder.path().join("nats-server.log");
        let mut watch = LogWatch::new(path.clone());
        let lines = [
            "[12695] 2026/11/23 05:33:38.632257 [ERR] Filestore [KV_QA_PRESENCE] Critical write error: lmb missing",
            "[18772] 2026/11/30 22:15:08.110973 [ERR] JetStream failed to store a msg on stream '$G > S': write \
             1.blk: file too large",
            "[7] 2026/11/30 22:15:08.110973 [WRN] Error creating storage directory: read-only file system",
        ];
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        for line in lines {
            assert_eq!(watch.look().unwrap().as_deref(), Some(line));
        }
    }

    #[test]
    fn what_a_stranger_has_the_server_log_is_no_sign() {
        let lines = [
            // As nats-server 2.14 writes it.
            r#"[18772] 2026/11/30 22:15:11.385257 [ERR] 127.0.0.1:58536 - cid:12 - Client parser ERROR, state=10, i=1: proto='"no space left on device\r"...'"#,
            r#"[1] 2026/11/30 22:15:11.385257 [ERR] [::1]:58536 - cid:12 - "v1:go: - Filestore [X] Critical write error" - x"#,
            "[1] 2026/11/30 22:15:11.385257 [INF] Filestore [X] Critical write error",
            "[ERR] Filestore [X] Critical write error",
            "Critical write error",
        ];
        for line in lines {
            assert!(!is_sign(line), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_no_sign_nor_is_its_rest() {
        let folder = crate::testing::temporary_folder();
        let path = folder.path().join("nats-server.log");
        let mut watch = LogWatch::new(path.clone());
        let long = "x".repeat(usize::try_from(LONGEST_LINE).unwrap());
        std::fs::write(&path, format!("{long}{SIGN}\n")).unwrap();
        assert_eq!(watch.look().unwrap(), None);
        append(&path, &format!("{SIGN}\n"));
        assert_eq!(watch.look().unwrap().as_deref(), Some(SIGN));
    }

    proptest! {
        #[test]
        fn no_text_of_a_connection_is_a_sign(port in 1_u16.., cid in 1_u64.., text in "[^\n]{0,40}", sign in 0..SIGNS.len()) {
            let line = format!(
                "[1] 2026/11/30 22:15:11.385257 [ERR] 10.0.0.1:{port} - cid:{cid} - {text}{}{text}", SIGNS[sign]
            );
            prop_assert!(!is_sign(&line));
        }
    }
}
