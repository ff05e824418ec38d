//! Which schema a database has, which this program needs, and what is done about it.

/// What is done about a database of an older schema version. One of a newer is always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrations {
    /// It is brought to the version that this program needs.
    Apply,
    /// It is refused, with the command that migrates it.
    Require,
}

/// Which version a database has, and which this program needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersions {
    /// The database's version; 0 if it has no tables of ours, or does not exist.
    pub current: u32,
    /// The version that this program needs.
    pub wanted: u32,
}

impl SchemaVersions {
    /// Whether migrations are to be run.
    pub fn is_pending(&self) -> bool {
        self.current < self.wanted
    }

    /// Why a program that needs exactly the wanted version cannot use the database, if so.
    pub(crate) fn mismatch(self) -> Option<String> {
        let Self { current, wanted } = self;
        self.is_pending()
            .then(|| {
                format!(
                    "the database has schema version {current} and version {wanted} is needed: run \
                     `countersign migrate`"
                )
            })
            .or_else(|| self.too_new())
    }

    /// Why a program that would bring the database to the wanted version must leave it alone, if so.
    pub(crate) fn too_new(self) -> Option<String> {
        let Self { current, wanted } = self;
        (current > wanted).then(|| {
            format!(
                "the database has schema version {current} and this program knows versions up to \
                 {wanted}: a newer Countersign has migrated it; run that one, or restore the \
                 backup made before"
            )
        })
    }
}
