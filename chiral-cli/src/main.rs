//! The command `chiral`.

fn main() -> std::process::ExitCode {
    chiral_cli::main()
}
