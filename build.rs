//! How the released program is linked.

use std::env;

/// A position-independent program has some 17,000 pointers to set right whenever it starts. A slave starts it for every verb, and
/// for each poll of `usage`: a third of what that costs was this. So the released program has a fixed address. Libraries, stack
/// and heap keep random ones, and neither our code nor most of what it depends on knows `unsafe`.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // Elsewhere programs must be position-independent, or are linked in other ways.
    let is_known = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is_known && is("PROFILE", "release") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
