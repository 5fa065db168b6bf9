//! What cannot work is said in one clear sentence that names the way out, and nothing is left.

use std::fs;

use crate::laptop::Laptop;

/// The one sentence that `wallet dev` ends with.
fn refuses(laptop: &Laptop, code: i32, words: &[&str]) -> String {
    let refused = laptop.run("dev");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
    assert!(refused.stdout.is_empty(), "{}", String::from_utf8_lossy(&refused.stdout));
    laptop.nobody_is_left();
    said
}

#[test]
fn a_setting_that_cannot_work_is_named_and_its_value_is_not_shown() {
    const VALUE: &str = "sk_live_hunter2";
    for (name, value) in [
        ("PAYSTACK_SECRET_KEY", VALUE),
        ("PAYSTACK_SECRET_KEY", "pk_test_0123456789abcdef0123456789abcdef01234567"),
        ("PAYSTACK_SECRET_KEY", "sk_test_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ("API_TOKEN_KEYS", "test:hunter2"),
        ("KEYS_SECRET", "hunter2"),
        ("API_PUBLIC_URL", "ftp://hunter2"),
    ] {
        let laptop = Laptop::new().with(name, value);
        let said = refuses(&laptop, 64, &[name]);
        assert!(!said.contains(value) && !said.contains("hunter2"), "it shows the value: {said}");
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    }
    for (name, value) in [("PORT", "0"), ("SANDBOX_PORT", "70000"), ("ADMIN_PORT", "http")] {
        let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
        refuses(&Laptop::new().with(name, value), 64, &[&flag]);
    }
}

#[test]
fn a_broken_data_folder_is_named() {
    let laptop = Laptop::new();
    fs::write(laptop.data(), "a file").unwrap();
    let said = refuses(&laptop, 1, &["is not a folder", "WALLET_DATA"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    fs::remove_file(laptop.data()).unwrap();

    let secrets = laptop.data().join("secrets");
    fs::create_dir_all(&secrets).unwrap();
    fs::write(secrets.join("keys_secret"), "").unwrap();
    let said = refuses(&laptop, 1, &["secrets/keys_secret", "is empty"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    fs::remove_dir_all(laptop.data()).unwrap();

    let cluster = laptop.data().join("postgres/cluster");
    fs::create_dir_all(&cluster).unwrap();
    fs::write(cluster.join("base"), "").unwrap();
    let said = refuses(&laptop, 1, &["postgres/cluster", "no PG_VERSION"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    fs::write(cluster.join("PG_VERSION"), "9\n").unwrap();
    let said = refuses(&laptop, 1, &["Postgres 9, which made the data, was not found"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_missing_tool_is_named_with_the_way_to_get_it() {
    let laptop = Laptop::new().with("WALLET_TOOLS", "/nowhere").with("PATH", "/nowhere");
    let said = refuses(&laptop, 1, &["was not found", "make tools"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_demo_of_nothing_says_what_to_do() {
    let demo = Laptop::new().run("demo");
    let said = String::from_utf8(demo.stderr).unwrap();
    assert_eq!(demo.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing answers at http://127.0.0.1:"), "{said}");
    assert!(said.contains("make run"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
