#![doc = include_str!("../README.md")]

pub mod convert;
pub mod subjects;

/// The envelope of every event.
pub mod common {
    /// First version of the wire.
    pub mod v1 {
        #![allow(missing_docs, clippy::all, reason = "generated")]
        include!(concat!(env!("OUT_DIR"), "/common.v1.rs"));
    }
}

/// The ledger's commands and queries.
pub mod ledger {
    /// First version of the wire.
    pub mod v1 {
        #![allow(missing_docs, clippy::all, reason = "generated")]
        include!(concat!(env!("OUT_DIR"), "/ledger.v1.rs"));
    }
}

/// The payments service's commands, queries and events.
pub mod payments {
    /// First version of the wire.
    pub mod v1 {
        #![allow(missing_docs, clippy::all, reason = "generated")]
        include!(concat!(env!("OUT_DIR"), "/payments.v1.rs"));
    }
}

/// The keys service's commands, queries and events.
pub mod keys {
    /// First version of the wire.
    pub mod v1 {
        #![allow(missing_docs, clippy::all, reason = "generated")]
        include!(concat!(env!("OUT_DIR"), "/keys.v1.rs"));
    }
}

/// The compiled descriptors of everything above, encoded as a `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
