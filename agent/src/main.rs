//! The program `muster`: an agent, or a command to one.

fn main() -> std::process::ExitCode {
    muster::main()
}
