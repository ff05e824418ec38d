//! What `countersign demo` shows: a page on an origin of its own ([`page`]), a hostile one beside it
//! ([`stranger`]), and a look over the service's shoulder ([`witness`]).
//!
//! The page's files are an example to copy: they know nothing of this program but `settings.json` and,
//! if it is there, `seen`.

mod assets;
mod doors;
mod host;
mod page;
mod password;
mod settings;
mod stranger;
mod witness;

pub(crate) use assets::write_page;
pub(crate) use doors::{Doors, Wish};
pub(crate) use page::Page;
pub(crate) use password::throw_away_password;
pub(crate) use settings::Setting;
pub(crate) use stranger::Stranger;
pub(crate) use witness::{Witness, look_on};
