//! The program `muster`: an agent, or a command to one.

/// As fast as others here, and a parked connection costs a third of what it does with glibc's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Few arenas and early return of what is free: the agent is to be small beside what it looks after.
#[allow(unsafe_code)] // the name is the one that jemalloc reads, and nothing else has it
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8] = b"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> std::process::ExitCode {
    muster::main()
}
