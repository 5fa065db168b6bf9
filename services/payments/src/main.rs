//! The payments service: money in through Paystack.

fn main() -> std::process::ExitCode {
    chassis::main_with("payments", payments::migrate, payments::serve, payments::command::run)
}
