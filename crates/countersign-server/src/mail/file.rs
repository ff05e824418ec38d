//! Mails as files, one each, for tests and for programs that take them from there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use countersign_core::mail::{DeliveryFailure, MailId};
use lettre::Message;

use crate::failure::Failure;

/// Opens the directory, which is made if it is not there. Only its owner reads other people's mail.
pub(super) fn open(directory: &Path) -> Result<PathBuf, Failure> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|error| {
        Failure::Failed(format!(
            "mails cannot be put into {} ({error}): let this user write there, or name another \
             directory in mail.transport",
            directory.display()
        ))
    })?;
    Ok(directory.to_owned())
}

/// Puts a mail into `<id>.eml`, whole or not at all. A second time it takes its own place.
pub(super) async fn write(
    directory: &Path,
    id: MailId,
    message: &Message,
) -> Result<(), DeliveryFailure> {
    let (directory, text) = (directory.to_owned(), message.formatted());
    let written = tokio::task::spawn_blocking(move || write_whole(&directory, id, &text));
    let written = written
        .await
        .unwrap_or_else(|gone| Err(io::Error::other(gone)));
    written.map_err(|error| DeliveryFailure::Temporary(format!("it cannot be written: {error}")))
}

fn write_whole(directory: &Path, id: MailId, text: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!(".{id}.{}.new", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(format!("{id}.eml")))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{mail, writer};
    use super::*;

    #[tokio::test]
    async fn a_mail_is_one_file_however_often_it_is_delivered() {
        let place = tempfile::tempdir().unwrap();
        let directory = open(&place.path().join("a/b")).unwrap();
        let mail = mail("ana@example.org", "ana");
        let message = writer().write(&mail, None).unwrap().message;
        for _ in 0..2 {
            write(&directory, mail.id, &message).await.unwrap();
        }
        let files: Vec<_> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files, [directory.join(format!("{}.eml", mail.id))]);
        assert_eq!(fs::read(&files[0]).unwrap(), message.formatted());
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_tried_again() {
        let mail = mail("ana@example.org", "ana");
        let message = writer().write(&mail, None).unwrap().message;
        let failure = write(Path::new("/nonexistent"), mail.id, &message)
            .await
            .unwrap_err();
        assert!(
            matches!(failure, DeliveryFailure::Temporary(_)),
            "{failure:?}"
        );
    }
}
