//! Whether a request was made by a page, and by whose.
//!
//! Why at every port: a browser shows its certificate, as it sends a cookie, to whoever
//! makes it ask. What a person's browser adds by itself must not count for a page of
//! another site. Programs send none of these headers.
//! Not here: what a cookie needs besides (`admin/guard`).

use http::{HeaderMap, Method, Uri, header};

/// Where a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MadeBy {
    /// No page is named: no browser, or a person who typed the address.
    NoPage,
    OwnPage,
    AnotherSite,
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"))
}

/// Reads what browsers say and pages cannot change. Another port is another site.
pub(crate) fn made_by(method: &Method, uri: &Uri, headers: &HeaderMap) -> MadeBy {
    let site = text(headers, "sec-fetch-site");
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        // A link from elsewhere may lead to the page, which is the same for everybody.
        let led = text(headers, "sec-fetch-mode") == Some("navigate")
            && matches!(*method, Method::GET | Method::HEAD)
            && uri.path().starts_with("/ui");
        return if led { MadeBy::NoPage } else { MadeBy::AnotherSite };
    }
    let Some(origin) = text(headers, header::ORIGIN.as_str()) else { return MadeBy::NoPage };
    // The address that the client asked, as it named it.
    let asked = uri.authority().map(|authority| authority.as_str());
    let asked = asked.or_else(|| text(headers, header::HOST.as_str()));
    let host = origin.strip_prefix("https://");
    if host.is_some() && host == asked { MadeBy::OwnPage } else { MadeBy::AnotherSite }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, headers: &[(&str, &str)]) -> MadeBy {
        let mut builder = http::Request::get(path).header("host", "a1:2379");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let request = builder.body(()).unwrap();
        made_by(request.method(), request.uri(), request.headers())
    }

    #[test]
    fn programs_pages_and_links_are_told_apart() {
        assert_eq!(asked("/v3/kv/put", &[]), MadeBy::NoPage);
        assert_eq!(asked("/v3/kv/put", &[("origin", "https://a1:2379")]), MadeBy::OwnPage);
        assert_eq!(asked("https://a1/x", &[("origin", "https://a1")]), MadeBy::OwnPage);
        for origin in ["https://evil.example", "https://a1:6443", "http://a1:2379", "null"] {
            assert_eq!(asked("/v3/kv/put", &[("origin", origin)]), MadeBy::AnotherSite, "{origin}");
        }
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(asked("/ui/nodes", &link), MadeBy::NoPage);
        assert_eq!(asked("/api/v1/secrets", &link), MadeBy::AnotherSite);
        assert_eq!(asked("/ui/", &[("sec-fetch-site", "same-site")]), MadeBy::AnotherSite);
    }
}
