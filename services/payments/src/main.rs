//! The payments service: money in through Paystack.

fn main() -> std::process::ExitCode {
    chassis::main("payments", payments::migrate, payments::serve)
}
