//! The keys service: makes, checks and ends API keys.

fn main() -> std::process::ExitCode {
    chassis::main("keys", keys::migrate, keys::serve)
}
