//! The `whisperq` program; everything it does is in the library.

fn main() -> std::process::ExitCode {
    whisperq::cli::run()
}
