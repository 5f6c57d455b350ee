use super::*;

fn guard(keyless: bool) -> BrowserGuard {
    let hosts = ["Platform".to_owned(), "p.ns.svc".to_owned()];
    let origins = [
        "HTTP://localhost:3000/".to_owned(),
        "https://app.example:443".to_owned(),
    ];
    BrowserGuard::new(keyless, &hosts, &origins).unwrap()
}

fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    let mut headers = HeaderMap::new();
    for (name, value) in given.iter().map(header) {
        headers.append(name, value);
    }
    headers
}

fn passes(guard: &BrowserGuard, given: &[(&'static str, &str)]) -> bool {
    let headers = headers(given);
    let uri = Uri::from_static("/run");
    guard.check(&uri, &headers).is_ok() && guard.check_site(&headers).is_ok()
}

#[test]
fn without_a_key_only_the_platforms_own_hosts_are_allowed() {
    let hosts = |guard: &BrowserGuard, host: &str| passes(guard, &[("host", host)]);
    for host in [
        "localhost",
        "localhost:8000",
        "LOCALHOST.:8000",
        "a.localhost",
        "127.0.0.1:8000",
        "127.9.9.9",
        "[::1]:8000",
        "[::ffff:127.0.0.1]:8000",
        "192.168.1.5:8000",
        "platform:8000",
        "PLATFORM",
        "p.ns.svc:80",
    ] {
        assert!(hosts(&guard(true), host), "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "x.platform",
        "localhost@evil.example",
        "evil.example@localhost",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0.0.0.0:8000",
        "[::]:8000",
        "[::ffff:0:0]:8000",
        "[::ffff:0.0.0.0]:8000",
        "[0:0:0:0:0:FFFF:0:0]",
        "::1",
        "",
        ":8000",
        "localhost:8000, evil.example",
    ] {
        assert!(!hosts(&guard(true), host), "{host}");
        assert!(hosts(&guard(false), host), "{host}");
    }
    assert!(passes(&guard(true), &[]));
    assert!(!passes(
        &guard(true),
        &[("host", "localhost"), ("host", "evil.example")]
    ));
    let mut all = guard(true);
    all.add_host("0.0.0.0");
    assert!(hosts(&all, "0.0.0.0:8000"));
    // A request to a proxy names the host in the target as well.
    let target = Uri::from_static("http://evil.example:8000/run");
    assert!(
        guard(true)
            .check(&target, &headers(&[("host", "localhost:8000")]))
            .is_err()
    );
}

#[test]
fn an_origin_is_the_platforms_own_or_allowed() {
    let own = [
        ("localhost:8000", "http://localhost:8000"),
        ("LocalHost:8000", "http://localhost:8000"),
        ("127.0.0.1:80", "http://127.0.0.1"),
        ("localhost", "https://localhost:443"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("localhost:8000", "http://localhost:3000"),
        ("localhost:8000", "https://app.example"),
    ];
    for (host, origin) in own {
        for keyless in [true, false] {
            assert!(
                passes(&guard(keyless), &[("host", host), ("origin", origin)]),
                "{origin}"
            );
        }
    }
    let foreign = [
        "https://evil.example",
        "null",
        "",
        "http://localhost:8001",
        "http://localhost",
        "http://127.0.0.1:8000",
        "http://localhost:8000.evil.example",
        "http://evil.example:8000",
        "file://localhost:8000",
        "localhost:8000",
        "http://app.example",
        "https://app.example.evil.example",
    ];
    for origin in foreign {
        for keyless in [true, false] {
            let given = [("host", "localhost:8000"), ("origin", origin)];
            assert!(!passes(&guard(keyless), &given), "{origin}");
        }
    }
    let two = [
        ("host", "localhost"),
        ("origin", "http://localhost"),
        ("origin", "http://localhost"),
    ];
    assert!(!passes(&guard(true), &two));
    // Behind a name of its own, the platform with a key has that origin.
    let named = [("host", "pods.example"), ("origin", "https://pods.example")];
    assert!(passes(&guard(false), &named) && !passes(&guard(true), &named));
}

#[test]
fn a_request_of_another_sites_page_is_recognized_without_an_origin() {
    for (site, fine) in [
        ("none", true),
        ("same-origin", true),
        ("same-site", false),
        ("cross-site", false),
        ("", false),
    ] {
        let given = [("host", "localhost"), ("sec-fetch-site", site)];
        assert_eq!(passes(&guard(true), &given), fine, "{site}");
        assert!(passes(&guard(false), &given), "{site}");
    }
    let app = [
        ("host", "localhost"),
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://app.example"),
    ];
    assert!(passes(&guard(true), &app));
}

#[test]
fn invalid_allowed_hosts_and_origins_are_rejected() {
    let new = |hosts: &[&str], origins: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        BrowserGuard::new(true, &owned(hosts), &owned(origins))
    };
    for host in [
        "",
        ".",
        "http://platform",
        "platform:8000",
        "a/b",
        "a b",
        "*",
        "*.example",
    ] {
        let error = new(&[host], &[]).unwrap_err();
        assert!(matches!(error, Error::AllowedHost(_)), "{host}");
    }
    for origin in [
        "",
        "*",
        "null",
        "app.example",
        "http://",
        "http://a/path",
        "http://*.example",
        "http://u@a",
        "http://a\nb",
    ] {
        let error = new(&[], &[origin]).unwrap_err();
        assert!(matches!(error, Error::AllowedOrigin(_)), "{origin}");
    }
    new(
        &["::1", "[::1]", "a_b.svc.cluster.local."],
        &["chrome-extension://abcdef"],
    )
    .unwrap();
}
