//! How many files this process may hold open, and how many of them are left for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{DatabaseSettings, Problems, ServerSettings};

/// More connections than this are for a proxy to hold.
const MOST_CONNECTIONS: usize = 8_192;
/// With fewer there is no point in serving.
const LEAST_CONNECTIONS: usize = 16;
/// Connections of the operations listener.
pub(crate) const OPERATIONS: usize = 32;
/// What else is open: standard streams, sockets, the runtime's own, certificates when they are read again, a
/// mail on its way.
const OTHERS: usize = 64;

/// As many files as this user may have open at all, from now on. The lower limit that most systems begin
/// with is for programs that use `select`, which fails beyond 1,024 files; we do not.
///
/// `None`: any number.
pub(crate) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(event = "open_files_not_raised", %error);
        }
    }
    getrlimit(Resource::Nofile).current
}

/// How many connections there may be with so many files.
///
/// # Errors
/// The files do not suffice for those that are asked for, or for any.
pub(crate) fn for_connections(
    open_files: Option<u64>,
    server: &ServerSettings,
    database: &DatabaseSettings,
) -> Result<usize, Problems> {
    let reserved = OPERATIONS + OTHERS + database.open_files();
    let open_files = open_files.and_then(|files| usize::try_from(files).ok());
    let left = open_files.map_or(usize::MAX, |files| files.saturating_sub(reserved));
    let (least, chosen) = match server.max_connections {
        Some(chosen) => (chosen, chosen),
        None => (LEAST_CONNECTIONS, left.min(MOST_CONNECTIONS)),
    };
    if left >= least {
        return Ok(chosen);
    }
    let mut problems = Problems::default();
    problems.add(
        "server.max_connections",
        format!(
            "this user may have {} files open, {reserved} of them for the database and the like, which \
             leaves {left} for connections: raise the limit to {} (LimitNOFILE= in a unit of systemd, or \
             `ulimit -n`){}",
            left + reserved.min(open_files.unwrap_or(reserved)),
            least + reserved,
            if server.max_connections.is_some() {
                ", or write a smaller number here"
            } else {
                ""
            }
        ),
    );
    Err(problems)
}
