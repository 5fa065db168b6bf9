//! The ledger: the only writer of money.

fn main() -> std::process::ExitCode {
    chassis::main("ledger", ledger::migrate, ledger::serve)
}
