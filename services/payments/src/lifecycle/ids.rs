//! Ids of what follows from something that has an id: nothing is invented while executing, so a
//! repeat after a crash asks for the same.

use primitives::TransferId;
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid, Variant, Version};

/// The bytes of a UUIDv7 that say when.
const TIME_BYTES: usize = 6;

/// The transfer that `of` needs for a purpose, the `n`th of that kind: as old as `of`, and no
/// other's.
pub(crate) fn transfer_id(of: Uuid, purpose: &str, n: u16) -> TransferId {
    let mut hash = Sha256::new();
    hash.update(of.as_bytes());
    hash.update(n.to_be_bytes());
    hash.update(purpose);
    let digest = hash.finalize();
    let mut bytes = *of.as_bytes();
    for (to, from) in bytes.iter_mut().skip(TIME_BYTES).zip(digest) {
        *to = from;
    }
    let id = Builder::from_bytes(bytes)
        .with_version(Version::SortRand)
        .with_variant(Variant::RFC4122)
        .into_uuid();
    TransferId::from_uuid(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_purpose_has_an_id_of_its_own_which_is_always_the_same() {
        let (one, other) = (TransferId::generate().uuid(), TransferId::generate().uuid());
        let ids =
            |of| [("a", 0), ("a", 1), ("b", 0)].map(|(purpose, n)| transfer_id(of, purpose, n));
        let all: BTreeSet<_> = ids(one).into_iter().chain(ids(other)).collect();
        assert_eq!(all.len(), 6);
        assert_eq!(ids(one), ids(one));
        for id in ids(one) {
            assert_eq!(id.uuid().get_version_num(), 7);
            assert_eq!(id.uuid().as_bytes()[..TIME_BYTES], one.as_bytes()[..TIME_BYTES]);
        }
    }
}
