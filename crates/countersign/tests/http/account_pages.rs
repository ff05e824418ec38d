//! `/account/…`: the pages that the links of letters lead to.

use crate::harness::{Client, Setup};
use countersign::{RESET_PASSWORD_PAGE, VERIFY_EMAIL_PAGE};
use http::StatusCode;

const PAGES: [&str; 2] = [RESET_PASSWORD_PAGE, VERIFY_EMAIL_PAGE];

async fn visitor() -> Client {
    Setup::development().start().await.visitor()
}

async fn text(visitor: &Client, path: &str) -> String {
    let answer = visitor.get(path).send().await.expect(StatusCode::OK);
    String::from_utf8(answer.bytes).unwrap()
}

#[tokio::test]
async fn the_pages_and_what_they_need_are_served_with_their_types() {
    let visitor = visitor().await;
    for (path, media_type, cache) in [
        (PAGES[0], "text/html; charset=utf-8", "no-store"),
        (PAGES[1], "text/html; charset=utf-8", "no-store"),
        ("/account/page.css", "text/css; charset=utf-8", "no-cache"),
        (
            "/account/page.js",
            "text/javascript; charset=utf-8",
            "no-cache",
        ),
    ] {
        let answer = visitor.get(path).send().await.expect(StatusCode::OK);
        assert_eq!(answer.header("content-type"), media_type);
        assert_eq!(answer.header("cache-control"), cache);
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(answer.set_cookies().is_empty());
        let policy = answer.header("content-security-policy");
        for directive in [
            "script-src 'self'",
            "connect-src 'self'",
            "form-action 'none'",
        ] {
            assert!(policy.split("; ").any(|part| part == directive), "{policy}");
        }
    }
}

#[tokio::test]
async fn the_pages_keep_to_their_own_policy() {
    let visitor = visitor().await;
    for path in PAGES {
        let page = text(&visitor, path).await;
        for inline in [
            " style=",
            " onclick=",
            " onload=",
            " onsubmit=",
            "javascript:",
            "<style",
        ] {
            assert!(!page.contains(inline), "{inline}");
        }
        for part in page.split("<script").skip(1) {
            assert!(part.split('>').next().unwrap().contains(" src="), "{part}");
        }
        let mut loaded = 0;
        for attribute in [" src=\"", " href=\""] {
            for part in page.split(attribute).skip(1) {
                let url = part.split('"').next().unwrap();
                if url.starts_with("data:image/") {
                    continue;
                }
                assert!(!url.contains('/'), "{url} is elsewhere");
                text(&visitor, &format!("/account/{url}")).await;
                loaded += 1;
            }
        }
        assert_eq!(loaded, 2);
    }
    let script = text(&visitor, "/account/page.js").await;
    for sink in [
        "innerHTML",
        "outerHTML",
        "document.write",
        "eval(",
        "Storage",
        "document.cookie",
    ] {
        assert!(!script.contains(sink), "{sink}");
    }
}

#[tokio::test]
async fn the_pages_are_kind_to_those_who_use_them() {
    let visitor = visitor().await;
    for path in PAGES {
        let page = text(&visitor, path).await;
        for needed in [
            "<html lang=\"en\">",
            "name=\"viewport\"",
            "<noscript>",
            "role=\"status\"",
            "<button type=\"submit\">",
        ] {
            assert!(page.contains(needed), "{path}: {needed}");
        }
        // Every field has a label and a place for what is wrong with it.
        for part in page.split("<input id=\"").skip(1) {
            let id = part.split('"').next().unwrap();
            assert!(page.contains(&format!("<label for=\"{id}\">")), "{id}");
            assert!(page.contains(&format!("id=\"{id}-error\"")), "{id}");
            assert!(part.contains(&format!("{id}-error")), "{id}");
        }
        assert!(!page.contains("onpaste"));
    }
    let page = text(&visitor, RESET_PASSWORD_PAGE).await;
    assert!(page.contains("type=\"password\" autocomplete=\"new-password\""));
}
