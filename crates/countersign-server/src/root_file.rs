//! The root secret's file: made once, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use countersign_core::secrets::RootSecret;

/// Writes the secret to a file that does not exist yet, readable by its owner alone.
///
/// The file is written and synced under another name and then linked to its own, which fails if
/// another process was faster: nobody ever sees it empty or half, even after a crash.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the file has come into being meanwhile, or the system's.
pub(crate) fn create(file: &Path, secret: &RootSecret) -> io::Result<()> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = temporary_name(file);
    // What a crash left behind under this process's number is of no use to anyone.
    let _nothing_left_behind = fs::remove_file(&temporary);
    let written = write_whole(&temporary, secret).and_then(|()| fs::hard_link(&temporary, file));
    let _best_effort = fs::remove_file(&temporary);
    written?;
    File::open(directory)?.sync_all()
}

fn write_whole(file: &Path, secret: &RootSecret) -> io::Result<()> {
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    open.write_all(secret.to_text().as_bytes())?;
    open.write_all(b"\n")?;
    open.sync_all()
}

fn temporary_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use countersign_core::clock::SystemRandomness;

    use super::*;

    #[test]
    fn the_file_is_private_whole_and_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("countersign.secret");
        create(&file, &RootSecret::generate(&SystemRandomness)).unwrap();
        let first = fs::read_to_string(&file).unwrap();
        assert!(RootSecret::parse(&first).is_ok());
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );

        let again = create(&file, &RootSecret::generate(&SystemRandomness)).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), first);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }
}
