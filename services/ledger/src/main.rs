//! The ledger: the only writer of money.

fn main() -> std::process::ExitCode {
    chassis::main_with("ledger", ledger::migrate, ledger::serve, ledger::fsck::run)
}
