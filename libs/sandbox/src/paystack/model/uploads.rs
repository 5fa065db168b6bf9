//! Files that a merchant sends as evidence, by an address that is good for half an hour.

use std::time::Duration;

use primitives::Timestamp;
use serde_json::json;

use super::super::answers::{self, Answer};
use super::Model;
use super::lists::Parameters;

const GOOD_FOR: Duration = Duration::from_secs(30 * 60);
const KINDS: [&str; 3] = ["jpg", "jpeg", "pdf"];

/// A file that may come, or has come.
#[derive(Debug)]
pub(super) struct Upload {
    signature: String,
    until_us: i64,
    n_bytes: Option<usize>,
}

/// Why a file is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoUpload {
    /// Nobody asked for this address.
    Unknown,
    /// It was good for half an hour.
    Expired,
}

impl Model {
    pub(super) fn upload_url(
        &mut self,
        id: &str,
        parameters: &Parameters,
        now: Timestamp,
    ) -> Result<Answer, Answer> {
        let id = self.answerable(id)?;
        let name = parameters
            .text("upload_filename")
            .ok_or_else(|| answers::missing_params("\"upload_filename\" is required"))?;
        let kind = name.rsplit_once('.').map(|(_, kind)| kind.to_ascii_lowercase());
        if !kind.as_deref().is_some_and(|kind| KINDS.contains(&kind)) {
            let message = "\"upload_filename\" must end in one of [jpg, jpeg, pdf]";
            return Err(answers::invalid_params(message));
        }
        let upload_id = self.next_id(now);
        self.last_id = upload_id;
        let file = self.made_up("file", upload_id, 20);
        let signature = self.made_up("signature of", upload_id, 40);
        let url = format!(
            "{}/uploads/{id}/{file}?expires={}&signature={signature}",
            self.settings.public_url,
            now.plus(GOOD_FOR).seconds(),
        );
        let until_us = now.plus(GOOD_FOR).micros();
        self.uploads.insert(file.clone(), Upload { signature, until_us, n_bytes: None });
        let data = json!({ "signedUrl": url, "fileName": file });
        Ok(answers::success("Upload url generated", data))
    }

    /// A file arrives.
    pub(crate) fn upload(
        &mut self,
        file: &str,
        signature: &str,
        n_bytes: usize,
        now: Timestamp,
    ) -> Result<(), NoUpload> {
        let upload = self.uploads.get_mut(file).filter(|it| it.signature == signature);
        let upload = upload.ok_or(NoUpload::Unknown)?;
        if now.micros() > upload.until_us {
            return Err(NoUpload::Expired);
        }
        upload.n_bytes = Some(n_bytes);
        Ok(())
    }

    /// How large the file of this name is that arrived.
    #[must_use]
    pub fn uploaded(&self, file: &str) -> Option<usize> {
        self.uploads.get(file)?.n_bytes
    }
}
