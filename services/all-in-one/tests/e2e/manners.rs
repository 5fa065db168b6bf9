//! The manners of every answer, good or bad: its name, its headers, and whose pages may read it.

use crate::world::World;

#[tokio::test]
async fn every_answer_has_the_manners_of_the_house() {
    let app = "https://app.example";
    let world = World::start_with(&[&format!("--api-allowed-origins={app}")]).await;
    let longest = "x".repeat(128);
    for path in ["/", "/docs", "/openapi.json", "/wallet/balance", "/nowhere", "/auth/google"] {
        for (own, is_sane) in [
            ("order-17.retry_2", true),
            (longest.as_str(), true),
            (&"x".repeat(129), false),
            ("a b", false),
            ("<script>", false),
            ("a,b", false),
        ] {
            let answer = world.client.get(path).header("x-request-id", own).send().await;
            let echoed = answer.header("x-request-id");
            assert_eq!(echoed == own, is_sane, "{path}: {own} became {echoed}");
            assert!(echoed.len() >= 16, "{path}: {echoed}");
        }
        let answer = world.client.get(path).send().await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.header(name), value, "{path}: {name}");
        }
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(answer.header("server").is_empty() && answer.header("x-powered-by").is_empty());
    }
    for path in ["/", "/docs", "/auth/me", "/nowhere"] {
        let (head, get) = ("HEAD".parse().unwrap(), "GET".parse().unwrap());
        let [head, get] = [head, get].map(|it| world.client.call(it, path).send());
        let (head, get) = (head.await, get.await);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
    for (origin, is_allowed) in [
        (app, true),
        ("https://app.example.evil.example", false),
        ("http://app.example", false),
        ("https://evil.example", false),
        ("null", false),
    ] {
        insist_on_cors(&world, origin, is_allowed).await;
    }
    world.finish().await;
}

async fn insist_on_cors(world: &World, origin: &str, is_allowed: bool) {
    let allowed = if is_allowed { origin } else { "" };
    for path in ["/", "/wallet/balance", "/nowhere"] {
        let answer = world.client.get(path).header("origin", origin).send().await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{path}");
        assert!(answer.header("access-control-allow-credentials").is_empty(), "{path}");
        assert!(answer.header("vary").to_lowercase().contains("origin"), "{path}");
    }
    let preflight = world.client.call("OPTIONS".parse().unwrap(), "/wallet/transfer");
    let preflight = preflight.header("origin", origin);
    let answer = preflight.header("access-control-request-method", "POST").send().await;
    answer.expect(204);
    assert_eq!(answer.header("access-control-allow-origin"), allowed);
    assert_eq!(answer.header("access-control-allow-methods").contains("POST"), is_allowed);
    let headers = answer.header("access-control-allow-headers");
    for name in ["authorization", "content-type", "idempotency-key", "x-api-key"] {
        assert_eq!(headers.contains(name), is_allowed, "{origin}: {name} in {headers}");
    }
}
