//! What Paystack knows, on disk, so that a checkout opened yesterday can be paid today.
//!
//! One line of JSON for each state of a transaction, a refund or a dispute; the last of one id
//! stands. Not flushed to the
//! disk: the sandbox may lose what a power cut takes, as long as it can be read again.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::model::Kept;

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal and reads what is in it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(Self, Vec<Kept>)> {
        let shown = path.display();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("failed to make {shown}"))?;
        }
        let options =
            OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path);
        let mut file = options.with_context(|| format!("failed to open {shown}"))?;
        let text = std::fs::read(path).with_context(|| format!("failed to read {shown}"))?;
        let text = String::from_utf8_lossy(&text);
        let mut known = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match serde_json::from_str(line) {
                Ok(kept) => known.push(kept),
                Err(error) => tracing::warn!("a line of {shown} was passed over: {error}"),
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").with_context(|| format!("failed to write {shown}"))?;
        }
        Ok((Self { path: path.to_owned(), file }, known))
    }

    /// Writes down what became of something.
    pub(crate) fn write(&mut self, kept: &Kept) {
        let written = serde_json::to_vec(kept).map_err(std::io::Error::from);
        let written = written.and_then(|mut line| {
            line.push(b'\n');
            self.file.write_all(&line)
        });
        if let Err(error) = written {
            tracing::error!("failed to write {}: {error}", self.path.display());
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::error!("failed to clear {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Status, Transaction};
    use super::*;

    fn transaction(id: u64, status: Status) -> Kept {
        Kept::Transaction(Transaction {
            id,
            reference: format!("dep-{id}"),
            access_code: format!("code{id}"),
            email: "ada@example.com".to_owned(),
            requested_amount: 5_000,
            amount: 5_000,
            fees_on_top: 0,
            currency: "NGN".to_owned(),
            status,
            callback_url: None,
            channels: Vec::new(),
            channel: "card".to_owned(),
            metadata: serde_json::json!({ "naïve": "₦/₦" }),
            gateway_response: String::new(),
            card: String::new(),
            attempts: 0,
            customer_id: 1,
            created_at_us: 1,
            paid_at_us: None,
        })
    }

    #[test]
    fn what_was_written_is_read_again_even_after_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/journal.jsonl");
        let (mut journal, known) = Journal::open(&path).unwrap();
        assert!(known.is_empty());
        let (first, second) = (transaction(1, Status::Abandoned), transaction(2, Status::Success));
        journal.write(&first);
        journal.write(&second);
        let half = "{\"id\":3,\"ref";
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + half).unwrap();

        let (mut journal, known) = Journal::open(&path).unwrap();
        assert_eq!(known, [first.clone(), second.clone()]);
        let third = transaction(3, Status::Failed);
        journal.write(&third);
        assert_eq!(Journal::open(&path).unwrap().1, [first, second, third]);
        journal.clear();
        assert!(Journal::open(&path).unwrap().1.is_empty());
    }
}
