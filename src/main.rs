//! The program: see `cli`.

fn main() -> std::process::ExitCode {
    saerepl::cli::main()
}
