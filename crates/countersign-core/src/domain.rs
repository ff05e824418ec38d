//! Domains of e-mail addresses: one domain, however it is written.
//!
//! A domain that is not ASCII has two forms, in Unicode and in the ASCII that the DNS knows (`xn--…`), and
//! many spellings that are the same to it. By [UTS #46](https://www.unicode.org/reports/tr46/), without the
//! transitional mappings: `straße.example` is not `strasse.example`.

use std::borrow::Cow;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

const UTS46: Uts46 = Uts46::new();

/// A domain of a new address as it is stored: as typed, in lower case, where it is ASCII, and otherwise
/// in Unicode. `None`: no domain can be called so, by IDNA or by the DNS. A dot at its end is none of it.
pub(crate) fn of_new(typed: &str) -> Option<String> {
    let (denied, hyphens) = (AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    let ascii = UTS46.to_ascii(typed.as_bytes(), denied, hyphens, DnsLength::Verify);
    let ascii = ascii.ok()?;
    if typed.is_ascii() {
        return Some(ascii.into_owned());
    }
    Some(in_unicode(&ascii).into_owned())
}

/// The form in which two domains are compared: ASCII, in lower case. `None`: it is none by IDNA, as a
/// program may have stored that does not look at it.
pub(crate) fn in_ascii(domain: &str) -> Option<Cow<'_, str>> {
    let (denied, hyphens) = (AsciiDenyList::EMPTY, Hyphens::Allow);
    let ascii = UTS46.to_ascii(domain.as_bytes(), denied, hyphens, DnsLength::Ignore);
    ascii.ok()
}

/// The same in Unicode, of one in ASCII.
pub(crate) fn in_unicode(ascii: &str) -> Cow<'_, str> {
    let (denied, hyphens) = (AsciiDenyList::EMPTY, Hyphens::Allow);
    match UTS46.to_unicode(ascii.as_bytes(), denied, hyphens) {
        (unicode, Ok(())) => unicode,
        (_, Err(_)) => Cow::Borrowed(ascii),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_domain_is_kept_as_it_is_read() {
        for (typed, kept) in [
            ("Example.ORG", "example.org"),
            ("localhost", "localhost"),
            ("BÜCHER.example", "bücher.example"),
            ("bu\u{308}cher.example", "bücher.example"),
            ("bücher\u{3002}example", "bücher.example"),
            ("ｅxample.org", "example.org"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("faß.example", "faß.example"),
            ("a--b.example", "a--b.example"),
        ] {
            assert_eq!(of_new(typed).as_deref(), Some(kept), "{typed}");
        }
    }

    #[test]
    fn what_no_domain_can_be_called_is_none() {
        let long = format!("{}.org", "a".repeat(64));
        let longer = ["abcdefgh"; 30].join(".");
        for bad in [
            "",
            "example.org.",
            "example\u{3002}",
            ".example.org",
            "example..org",
            "-example.org",
            "example-.org",
            "exa_mple.org",
            "[192.0.2.1]",
            "exam ple.org",
            "xn--a.example",
            "xn--\u{fc}.example",
            "\u{200d}.example",
            "\u{5d0}a.example",
            "a\u{2024}b.example\u{7f}",
            &long,
            &longer,
        ] {
            assert_eq!(of_new(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_forms_of_a_domain_are_compared_as_one() {
        let ascii = "xn--bcher-kva.example";
        for same in [
            "bücher.example",
            "BÜCHER.Example",
            ascii,
            "XN--Bcher-KVA.example",
        ] {
            assert_eq!(in_ascii(same).as_deref(), Some(ascii), "{same}");
        }
        assert_eq!(in_unicode(ascii), "bücher.example");
        assert_ne!(in_ascii("faß.example"), in_ascii("fass.example"));
        // What others have stored is compared as it is, if IDNA lets it.
        assert_eq!(in_ascii("exa_mple.org.").as_deref(), Some("exa_mple.org."));
        assert_eq!(in_ascii("[192.0.2.1]").as_deref(), Some("[192.0.2.1]"));
        assert_eq!(in_ascii("xn--a.example"), None);
    }
}
