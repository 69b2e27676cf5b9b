//! muster-examples
