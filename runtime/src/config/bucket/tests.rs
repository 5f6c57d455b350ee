use super::*;

fn keys() -> AccessKeys {
    AccessKeys {
        id: "AKID".to_owned(),
        secret: "hush".to_owned(),
    }
}

fn at(endpoint: &str, name: Option<&str>, region: Option<&str>) -> Result<Bucket, BucketError> {
    Bucket::at(endpoint, name, region, keys(), BucketOrigin::Environment)
}

/// URL and given name; expected name, region, and URL before `/<key>`.
type Row = [&'static str; 5];

#[rustfmt::skip]
const PLACES: &[Row] = &[
    // Amazon: the bucket is in the host name, …
    ["https://s3.us-east-2.amazonaws.com", "b", "b", "us-east-2", "https://b.s3.us-east-2.amazonaws.com"],
    ["https://b.s3.us-east-2.amazonaws.com/", "", "b", "us-east-2", "https://b.s3.us-east-2.amazonaws.com"],
    ["https://b.s3.us-east-2.amazonaws.com", "b", "b", "us-east-2", "https://b.s3.us-east-2.amazonaws.com"],
    ["https://s3.amazonaws.com", "b", "b", "us-east-1", "https://b.s3.amazonaws.com"],
    ["https://b.s3.amazonaws.com", "", "b", "us-east-1", "https://b.s3.amazonaws.com"],
    ["https://s3-eu-west-1.amazonaws.com", "b", "b", "eu-west-1", "https://b.s3-eu-west-1.amazonaws.com"],
    ["https://b.s3.dualstack.eu-west-1.amazonaws.com", "", "b", "eu-west-1", "https://b.s3.dualstack.eu-west-1.amazonaws.com"],
    ["https://s3-fips.us-gov-west-1.amazonaws.com", "b", "b", "us-gov-west-1", "https://b.s3-fips.us-gov-west-1.amazonaws.com"],
    ["https://s3.cn-north-1.amazonaws.com.cn", "b", "b", "cn-north-1", "https://b.s3.cn-north-1.amazonaws.com.cn"],
    ["HTTPS://B.S3.EU-West-1.AmazonAWS.com", "", "b", "eu-west-1", "https://b.s3.eu-west-1.amazonaws.com"],
    // … unless its name contains a dot, or the given URL contains it in its path.
    ["https://s3.us-east-2.amazonaws.com", "a.b", "a.b", "us-east-2", "https://s3.us-east-2.amazonaws.com/a.b"],
    ["https://a.b.s3.us-east-2.amazonaws.com", "", "a.b", "us-east-2", "https://a.b.s3.us-east-2.amazonaws.com"],
    ["https://s3.us-east-2.amazonaws.com/b", "", "b", "us-east-2", "https://s3.us-east-2.amazonaws.com/b"],
    // MinIO and similar servers.
    ["http://127.0.0.1:9000", "b", "b", "us-east-1", "http://127.0.0.1:9000/b"],
    ["http://[::1]:9000/", "b", "b", "us-east-1", "http://[::1]:9000/b"],
    ["http://localhost:9000/b/", "", "b", "us-east-1", "http://localhost:9000/b"],
    ["https://minio.example.com", "b", "b", "us-east-1", "https://minio.example.com/b"],
    ["https://s3.example.com:8443", "b", "b", "us-east-1", "https://s3.example.com:8443/b"],
    // Services behind a path of a shared host.
    ["https://x.supabase.co/storage/v1/s3", "b", "b", "us-east-1", "https://x.supabase.co/storage/v1/s3/b"],
    ["https://x.supabase.co/storage/v1/s3/", "b", "b", "us-east-1", "https://x.supabase.co/storage/v1/s3/b"],
    ["https://x.supabase.co/storage/v1/s3/b", "b", "b", "us-east-1", "https://x.supabase.co/storage/v1/s3/b"],
    ["http://localhost:9000/s3", "b", "b", "us-east-1", "http://localhost:9000/s3/b"],
    ["https://gateway.example.com//a~1//b.c/", "b", "b", "us-east-1", "https://gateway.example.com/a~1/b.c/b"],
    ["https://h/a/../b", "c", "c", "us-east-1", "https://h/b/c"],
    ["https://s3.gra.io.cloud.ovh.net", "b", "b", "gra", "https://s3.gra.io.cloud.ovh.net/b"],
    // Providers with regions.
    ["https://s3.eu-central-003.backblazeb2.com", "b", "b", "eu-central-003", "https://s3.eu-central-003.backblazeb2.com/b"],
    ["https://b.s3.eu-central-003.backblazeb2.com", "", "b", "eu-central-003", "https://b.s3.eu-central-003.backblazeb2.com"],
    ["https://nyc3.digitaloceanspaces.com", "b", "b", "nyc3", "https://nyc3.digitaloceanspaces.com/b"],
    ["https://b.nyc3.digitaloceanspaces.com", "", "b", "nyc3", "https://b.nyc3.digitaloceanspaces.com"],
    ["https://s3.eu-central-1.wasabisys.com", "b", "b", "eu-central-1", "https://s3.eu-central-1.wasabisys.com/b"],
    ["https://s3api-eu-ro-1.runpod.io/", "volume", "volume", "EU-RO-1", "https://s3api-eu-ro-1.runpod.io/volume"],
    // Providers with a single region.
    ["https://storage.googleapis.com", "b", "b", "auto", "https://storage.googleapis.com/b"],
    ["https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com", "b", "b", "auto", "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/b"],
    ["https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/b", "", "b", "auto", "https://0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com/b"],
    ["https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com", "b", "b", "auto", "https://0123456789abcdef0123456789abcdef.eu.r2.cloudflarestorage.com/b"],
    ["https://b.0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com", "", "b", "auto", "https://b.0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com"],
];

#[test]
fn the_bucket_is_found_in_each_form_of_url() {
    for [url, given, name, region, base] in PLACES {
        let bucket = at(url, Some(given), None);
        let bucket = bucket.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        let mut found = bucket.endpoint.clone();
        if !bucket.virtual_hosted {
            found = format!("{found}/{}", bucket.name);
        }
        let found = [bucket.name, bucket.region, found];
        assert_eq!(found, [*name, *region, *base], "{url}");
    }
}

#[test]
fn the_given_region_is_used_if_the_host_names_none() {
    let region = |url| at(url, Some("b"), Some("mars-1")).unwrap().region;
    assert_eq!(region("https://minio.example.com"), "mars-1");
    assert_eq!(region("https://s3.gra.io.cloud.ovh.net"), "mars-1");
    assert_eq!(region("https://b.s3-accelerate.amazonaws.com"), "mars-1");
    assert_eq!(region("https://s3.us-east-2.amazonaws.com"), "us-east-2");
    // The owner of a job's bucket does not know the worker's region.
    let region = |url| {
        let bucket = Bucket::at(url, Some("b"), Some("mars-1"), keys(), BucketOrigin::Job);
        bucket.unwrap().region
    };
    assert_eq!(region("https://minio.example.com"), "mars-1");
    assert_eq!(region("https://s3.gra.io.cloud.ovh.net"), "gra");
    assert_eq!(region("https://s3.amazonaws.com"), "us-east-1");
    assert_eq!(region("https://s3.us-east-2.amazonaws.com"), "us-east-2");
}

#[test]
fn rejects_invalid_urls_and_names() {
    let problem = |url: &str| match at(url, Some("b"), None) {
        Err(BucketError::Url(problem)) => problem,
        other => panic!("{url}: {other:?}"),
    };
    assert!(problem("s3.us-east-2.amazonaws.com").contains("does not start with https://"));
    assert!(problem("ftp://h").contains("`ftp` is not"));
    assert!(problem("https://me:hush@h").contains("a password"));
    assert!(problem("https://h/?x=1").contains("a query"));
    for known in [
        "https://s3.us-east-2.amazonaws.com",
        "https://nyc3.digitaloceanspaces.com",
    ] {
        assert!(problem(&format!("{known}/a/b")).contains("more than a bucket"));
    }
    assert!(problem("https://h/a%20b/c").contains("the parts of its path"));
    assert!(!problem("https://").is_empty());
    assert!(matches!(
        at("https://h/a%20b", None, None),
        Err(BucketError::Url(problem)) if problem.contains("letters, digits")
    ));
    assert!(problem("https://b.s3.us-east-2.amazonaws.com/x").contains("its path is not"));
    assert_eq!(at("https://h", None, None), Err(BucketError::Unnamed));
    assert_eq!(
        at("https://h/storage/v1/s3", None, None),
        Err(BucketError::Unnamed)
    );
    let name = |url, name| match at(url, Some(name), None) {
        Err(BucketError::Name(problem)) => problem,
        other => panic!("{url}: {other:?}"),
    };
    assert!(name("https://a.s3.us-east-2.amazonaws.com", "b").contains("another bucket name, `a`"));
    assert!(name("https://h", "../b").contains("letters, digits"));
    assert!(name("https://h", "a/b").contains("letters, digits"));
    assert!(name("https://h", "..").contains("letters, digits"));
    let keys = AccessKeys {
        id: "A\nB".to_owned(),
        secret: "hush".to_owned(),
    };
    let error = Bucket::at("https://h", Some("b"), None, keys, BucketOrigin::Job);
    assert_eq!(error, Err(BucketError::AccessKeyId));
}

#[test]
fn an_object_has_a_url_without_a_signature() {
    let url = |endpoint| {
        at(endpoint, Some("b"), None)
            .unwrap()
            .object_url("j/a b?#ü.png")
    };
    let key = "j/a%20b%3F%23%C3%BC.png";
    for (endpoint, base) in [
        (
            "https://s3.us-east-2.amazonaws.com",
            "https://b.s3.us-east-2.amazonaws.com",
        ),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/b"),
        (
            "https://x.supabase.co/storage/v1/s3",
            "https://x.supabase.co/storage/v1/s3/b",
        ),
    ] {
        assert_eq!(url(endpoint), format!("{base}/{key}"));
    }
}

#[test]
fn services_without_presigned_urls_are_recognized() {
    let signs = |endpoint| at(endpoint, Some("b"), None).unwrap().can_sign_urls;
    assert!(!signs("https://s3api-eu-ro-1.runpod.io"));
    assert!(!signs("https://S3API-US-KS-2.Runpod.io/b/"));
    assert!(signs("https://s3.us-east-2.amazonaws.com"));
    assert!(signs("http://127.0.0.1:9000"));
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", at("https://h", Some("b"), None));
    assert!(
        !shown.contains("hush") && !shown.contains("AKID"),
        "{shown}"
    );
}
