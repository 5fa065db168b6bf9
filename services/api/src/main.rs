//! The REST edge. `api openapi` prints the contract and ends.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|it| it == "openapi") {
        return match writeln!(std::io::stdout(), "{}", api::rest::specification()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    chassis::main("api", api::migrate, api::serve)
}
