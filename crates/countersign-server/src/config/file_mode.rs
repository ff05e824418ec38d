//! Whether a file is for its owner alone.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Whether anyone but the owner may read or change the file. False if that cannot be told: then reading it
/// fails as well, and says why.
pub(crate) fn others_have_access(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o066 != 0)
}
