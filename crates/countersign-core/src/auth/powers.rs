//! Powers: the groups and permissions that access tokens may carry, read where they are configured and
//! nowhere else.

use serde_json::{Map, Value};

use super::{Auth, UserClaim};
use crate::audit::Event;
use crate::error::{AuthError, StoreError};
use crate::store::{Powers, Store};
use crate::user::UserId;

/// The most groups and permissions together that are read of a user.
const MOST_POWERS: u32 = 500;

/// The most bytes that either claim may have: both together make 5.5 KiB of a token, which is refused
/// beyond 8 KiB, as is the line of a header by many proxies.
const MOST_CLAIM_BYTES: usize = 2 * 1_024;

/// Nobody's number: what asks whether the tables are there.
const NOBODY: UserId = UserId(0);

/// Whether any claim is about powers.
fn are_wanted(claims: &[UserClaim]) -> bool {
    claims.iter().any(|claim| claim.is_power())
}

/// Refuses to start where powers are wanted and there is no table of them.
pub(super) async fn require_tables(
    store: &dyn Store,
    claims: &[UserClaim],
) -> Result<(), StoreError> {
    if are_wanted(claims) {
        store.find_powers(NOBODY, MOST_POWERS).await?;
    }
    Ok(())
}

impl Auth {
    /// The claims that say what a user may do, as far as they are configured.
    pub(super) async fn power_claims(&self, user: UserId) -> Result<Map<String, Value>, AuthError> {
        let wanted = &self.settings.tokens.user_claims;
        if !are_wanted(wanted) {
            return Ok(Map::new());
        }
        let powers = self.store.find_powers(user, MOST_POWERS).await?;
        let (claims, left_out) = decide(&powers, wanted);
        for claim in left_out {
            let claim = claim.name();
            Event::PowersLeftOut { user, claim }.tell();
        }
        Ok(claims)
    }
}

/// The claims, and those that a token has no room for: a list that is cut would say what is not so, and
/// one that is too long would make a token that nobody accepts.
fn decide(powers: &Powers, wanted: &[UserClaim]) -> (Map<String, Value>, Vec<UserClaim>) {
    let are_too_many = powers.groups.len() + powers.permissions.len() > MOST_POWERS as usize;
    let mut claims = Map::new();
    let mut left_out = Vec::new();
    for (claim, names) in [
        (UserClaim::Groups, &powers.groups),
        (UserClaim::Permissions, &powers.permissions),
    ] {
        if !wanted.contains(&claim) {
            continue;
        }
        let list: Value = names.iter().map(String::as_str).collect();
        if are_too_many || list.to_string().len() > MOST_CLAIM_BYTES {
            left_out.push(claim);
        } else {
            claims.insert(claim.name().to_owned(), list);
        }
    }
    (claims, left_out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BOTH: [UserClaim; 2] = [UserClaim::Groups, UserClaim::Permissions];

    fn names(count: usize, length: usize) -> Vec<String> {
        vec!["n".repeat(length); count]
    }

    #[test]
    fn a_claim_lists_names_and_only_where_it_is_wanted() {
        let powers = Powers {
            groups: vec!["Editors".to_owned()],
            permissions: vec!["blog.add_entry".to_owned(), "blog.view_entry".to_owned()],
        };
        let (claims, left_out) = decide(&powers, &BOTH);
        let permissions = json!(["blog.add_entry", "blog.view_entry"]);
        assert_eq!(claims["groups"], json!(["Editors"]));
        assert_eq!(claims["permissions"], permissions);
        assert_eq!(left_out, []);
        let (claims, _) = decide(&powers, &[UserClaim::Username, UserClaim::Groups]);
        assert_eq!(claims.keys().collect::<Vec<_>>(), ["groups"]);
        let (claims, _) = decide(&Powers::default(), &BOTH);
        assert_eq!(claims["groups"], json!([]), "in no group, which is said");
    }

    #[test]
    fn a_list_that_a_token_has_no_room_for_is_left_out_whole() {
        // In brackets, quotes and commas.
        let fits = (MOST_CLAIM_BYTES - 1) / 16;
        let powers = Powers {
            groups: names(fits, 13),
            permissions: names(fits + 1, 13),
        };
        let (claims, left_out) = decide(&powers, &BOTH);
        assert_eq!(claims["groups"].as_array().map(Vec::len), Some(fits));
        assert!(!claims.contains_key("permissions"));
        assert_eq!(left_out, [UserClaim::Permissions]);
    }

    #[test]
    fn of_more_names_than_were_read_none_is_told() {
        let powers = Powers {
            groups: names(1, 1),
            permissions: names(MOST_POWERS as usize, 1),
        };
        let (claims, left_out) = decide(&powers, &BOTH);
        assert!(claims.is_empty());
        assert_eq!(left_out, BOTH);
    }
}
