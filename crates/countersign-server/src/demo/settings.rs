//! The settings file of the throw-away service: real settings, with nothing weakened.

use std::path::Path;

use toml::{Table, Value};

/// What the demo's settings are about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// The private directory that everything is in.
    pub(crate) directory: &'a Path,
    /// Where the service is.
    pub(crate) port: u16,
    pub(crate) api: &'a str,
    /// Who may call it.
    pub(crate) page: &'a str,
}

impl Setting<'_> {
    /// The text of the file. An access token lives so short that one sees it being replaced.
    pub(crate) fn to_toml(self) -> String {
        let Self {
            directory,
            port,
            api,
            page,
        } = self;
        let file = |name: &str| directory.join(name).display().to_string();
        let section = |pairs: Vec<(&str, Value)>| {
            let pairs = pairs.into_iter();
            Value::Table(pairs.map(|(key, value)| (key.to_owned(), value)).collect())
        };
        let database = format!("sqlite://{}", file("countersign.db"));
        let listen = format!("127.0.0.1:{port}");
        let document: Table = [
            (
                "server",
                section(vec![
                    ("listen", listen.into()),
                    // Nothing listens there. Its default is the next port, which the service itself may have.
                    ("operations_listen", "127.0.0.1:0".into()),
                    ("public_url", api.into()),
                ]),
            ),
            ("database", section(vec![("url", database.into())])),
            (
                "secrets",
                section(vec![("root_file", file("countersign.secret").into())]),
            ),
            ("tokens", section(vec![("access_lifetime", "1m".into())])),
            (
                "cors",
                section(vec![("origins", Value::Array(vec![page.into()]))]),
            ),
            ("log", section(vec![("level", "warn".into())])),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        document.to_string()
    }
}
