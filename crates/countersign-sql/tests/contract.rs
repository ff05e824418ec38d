//! The suite that every store passes.

mod support;

use self::support::Place;

countersign_core::store_contract!(async || Place::new().keep_until_the_process_ends());
