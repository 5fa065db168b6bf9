//! Compiles `proto/` into Rust with protox, so no machine needs `protoc`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "proto/common/v1/common.proto",
        "proto/ledger/v1/commands.proto",
        "proto/ledger/v1/queries.proto",
        "proto/payments/v1/commands.proto",
        "proto/payments/v1/queries.proto",
        "proto/payments/v1/events.proto",
        "proto/keys/v1/commands.proto",
        "proto/keys/v1/queries.proto",
        "proto/keys/v1/events.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // For the test that compares the wire with what was promised.
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
