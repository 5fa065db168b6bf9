//! The rules of keys: one line per case, and what holds for every value.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use keys::key::{
    ApiKey, Denial, Digest, Expiry, KEYS_ACTIVE_MAX, Key, Mode, Name, NotAnApiKey, Permission,
    Permissions, Refusal, Status, check, may_create, may_roll_over,
};
use primitives::{KeyId, Timestamp, UserId};
use proptest::prelude::*;

const CREATED: Timestamp = Timestamp::from_seconds(1_000_000);

fn key(expiry: Expiry) -> Key {
    let api_key = ApiKey::from_secret(Mode::Test, &[1; 32]);
    Key {
        id: KeyId::generate(),
        user_id: UserId::generate(),
        name: Name::parse("till").unwrap(),
        prefix: api_key.prefix().to_owned(),
        digest: api_key.digest(),
        permissions: Permissions::try_new(&[Permission::Read]).unwrap(),
        created_at: CREATED,
        expires_at: CREATED.plus(expiry.duration()),
        revoked_at: None,
        rolled_over_to: None,
        last_used_at: None,
    }
}

fn revoked(key: Key) -> Key {
    Key { revoked_at: Some(CREATED), ..key }
}

fn rolled_over(key: Key) -> Key {
    Key { rolled_over_to: Some(KeyId::generate()), ..key }
}

/// After so many seconds.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_000_000 + seconds)
}

#[test]
fn only_a_key_is_read_as_one() {
    let good = ApiKey::from_secret(Mode::Live, &[0xFB; 32]);
    let text = good.expose();
    assert_eq!(ApiKey::parse(text), Ok(good.clone()));
    let secret = text.strip_prefix("sk_live_").unwrap();
    for bad in [
        String::new(),
        "sk_live_".to_owned(),
        secret.to_owned(),
        format!("sk_prod_{secret}"),
        format!("SK_LIVE_{secret}"),
        format!("sk_live_{}", &secret[1..]),
        format!("sk_live_{secret}="),
        format!("sk_live_{secret}A"),
        format!(" sk_live_{secret}"),
        format!("sk_live_{secret}\n"),
        format!("sk_live_{}", secret.replace('_', "/").replace('-', "+")),
        // The last character carries four bits and two that must be zero.
        format!("sk_live_{}{}", &secret[..42], "t"),
        format!("sk_live_{}é", &secret[..41]),
    ] {
        assert_eq!(ApiKey::parse(&bad), Err(NotAnApiKey), "{bad:?}");
    }
}

#[test]
fn a_key_lives_exactly_as_long_as_was_asked() {
    for (expiry, hours) in
        [(Expiry::Hour, 1), (Expiry::Day, 24), (Expiry::Month, 30 * 24), (Expiry::Year, 365 * 24)]
    {
        let key = key(expiry);
        let end = hours * 3_600;
        assert_eq!(key.status(at(0)), Status::Active, "{expiry:?}");
        assert_eq!(key.status(at(end - 1)), Status::Active, "{expiry:?}");
        assert_eq!(key.status(at(end)), Status::Expired, "{expiry:?}");
    }
}

#[test]
fn a_key_is_revoked_before_it_is_anything_else() {
    let hour = || key(Expiry::Hour);
    for (key, late, status, opens) in [
        (hour(), 0, Status::Active, None),
        (hour(), 3_600, Status::Expired, Some(Denial::Expired)),
        (rolled_over(hour()), 3_600, Status::RolledOver, Some(Denial::Expired)),
        (revoked(hour()), 0, Status::Revoked, Some(Denial::Revoked)),
        (revoked(hour()), 3_600, Status::Revoked, Some(Denial::Revoked)),
        (revoked(rolled_over(hour())), 3_600, Status::Revoked, Some(Denial::Revoked)),
    ] {
        assert_eq!(key.status(at(late)), status);
        assert_eq!(check(Some(&key), key.digest, at(late)).err(), opens, "{status:?}");
    }
}

#[test]
fn a_key_opens_only_for_its_own_digest() {
    let key = key(Expiry::Day);
    let grant = check(Some(&key), key.digest, at(0)).unwrap();
    assert_eq!((grant.key_id, grant.user_id), (key.id, key.user_id));
    assert_eq!((grant.permissions, grant.expires_at), (key.permissions, key.expires_at));
    assert_eq!(check(None, key.digest, at(0)), Err(Denial::Unknown));
    for place in 0..32 {
        let mut other = key.digest;
        other.0[place] ^= 1;
        assert_eq!(check(Some(&key), other, at(0)), Err(Denial::Unknown), "byte {place}");
    }
}

#[test]
fn a_sixth_active_key_is_refused() {
    for n_active in 0..KEYS_ACTIVE_MAX {
        assert_eq!(may_create(n_active), Ok(()), "{n_active}");
    }
    for n_active in [KEYS_ACTIVE_MAX, KEYS_ACTIVE_MAX + 1, u32::MAX] {
        assert_eq!(may_create(n_active), Err(Refusal::KeyLimitReached), "{n_active}");
    }
}

#[test]
fn only_an_expired_key_is_rolled_over_and_only_once() {
    let hour = || key(Expiry::Hour);
    for (old, n_active, late, decided) in [
        (hour(), 0, 3_600, Ok(())),
        (hour(), 4, 3_600, Ok(())),
        (hour(), 5, 3_600, Err(Refusal::KeyLimitReached)),
        (hour(), 1, 3_599, Err(Refusal::KeyNotExpired)),
        (hour(), 5, 3_599, Err(Refusal::KeyNotExpired)),
        (rolled_over(hour()), 5, 3_600, Err(Refusal::KeyAlreadyRolledOver)),
        (revoked(hour()), 5, 0, Err(Refusal::KeyRevoked)),
        (revoked(hour()), 0, 3_600, Err(Refusal::KeyRevoked)),
        (revoked(rolled_over(hour())), 0, 3_600, Err(Refusal::KeyRevoked)),
    ] {
        assert_eq!(may_roll_over(&old, n_active, at(late)), decided, "{old:?}");
    }
}

#[test]
fn refusals_are_in_order_of_precedence() {
    let hour = || key(Expiry::Hour);
    // Each is also everything that comes after it in the list, as far as that is possible.
    let said = [revoked(rolled_over(hour())), rolled_over(hour()), hour()]
        .map(|old| may_roll_over(&old, 5, at(3_599)).unwrap_err());
    let places = said.map(|it| Refusal::ALL.iter().position(|other| *other == it).unwrap());
    assert!(places.is_sorted(), "{said:?}");
}

#[test]
fn a_name_is_one_to_a_hundred_characters() {
    for good in ["a", " ", "my till", "клавиша", &"é".repeat(100)] {
        assert_eq!(Name::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", &"é".repeat(101), "a\0", "line\nbreak", "\u{7f}", "\u{9b}2J"] {
        assert!(Name::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn permissions_are_one_to_three_without_repeats() {
    use Permission::{Deposit, Read, Transfer};
    for (list, good) in [
        (&[][..], false),
        (&[Read], true),
        (&[Transfer, Read], true),
        (&[Transfer, Deposit, Read], true),
        (&[Read, Read], false),
        (&[Read, Deposit, Transfer, Read], false),
    ] {
        assert_eq!(Permissions::try_new(list).is_ok(), good, "{list:?}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(secret: [u8; 32], live: bool) {
        let mode = if live { Mode::Live } else { Mode::Test };
        let key = ApiKey::from_secret(mode, &secret);
        prop_assert_eq!(ApiKey::parse(key.expose()), Ok(key.clone()));
        prop_assert_eq!(Mode::of(key.expose()), Some(mode));
        prop_assert!(key.expose().starts_with(key.prefix()));
        prop_assert_eq!(key.prefix().len(), 12);
        let debug = format!("{key:?}");
        prop_assert!(!debug.contains(&key.expose()[13..]));
    }

    #[test]
    fn reading_never_panics_and_accepts_nothing_it_would_not_print(text in ".{0,60}") {
        if let Ok(key) = ApiKey::parse(&text) {
            prop_assert_eq!(key.expose(), text);
        }
    }

    #[test]
    fn almost_a_key_is_read_only_if_it_is_one(tail in "[A-Za-z0-9_-]{42,44}") {
        let text = format!("sk_test_{tail}");
        if let Ok(key) = ApiKey::parse(&text) {
            prop_assert_eq!(key.expose(), text);
            prop_assert_eq!(tail.len(), 43);
        }
    }

    #[test]
    fn different_secrets_have_different_digests(a: [u8; 32], b: [u8; 32]) {
        let digest = |secret| ApiKey::from_secret(Mode::Test, secret).digest();
        prop_assert_eq!(digest(&a) == digest(&b), a == b);
        prop_assert_ne!(digest(&a), Digest([0; 32]));
    }

    #[test]
    fn permissions_survive_their_bits(bits in 1_i16..=7) {
        let permissions = Permissions::from_bits(bits).unwrap();
        let list: Vec<Permission> = permissions.iter().collect();
        prop_assert_eq!(Permissions::try_new(&list), Ok(permissions));
        prop_assert_eq!(permissions.bits(), bits);
        for permission in Permission::ALL {
            prop_assert_eq!(permissions.has(permission), list.contains(&permission));
        }
    }

    /// Time only ever moves a key from active to expired, and what ended stays ended.
    #[test]
    fn a_key_never_comes_back(
        end in proptest::sample::select(vec![0_u8, 1, 2, 3]),
        earlier in -10_000_i64..10_000,
        later in 0_i64..10_000,
    ) {
        let key = match end {
            0 => key(Expiry::Hour),
            1 => revoked(key(Expiry::Hour)),
            2 => rolled_over(key(Expiry::Hour)),
            _ => revoked(rolled_over(key(Expiry::Hour))),
        };
        let (before, after) = (at(earlier), at(earlier + later));
        if check(Some(&key), key.digest, before).is_err() {
            prop_assert!(check(Some(&key), key.digest, after).is_err());
        }
        if may_roll_over(&key, 0, before).is_ok() {
            prop_assert!(may_roll_over(&key, 0, after).is_ok());
            prop_assert!(check(Some(&key), key.digest, before).is_err());
        }
    }
}
