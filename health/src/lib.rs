//! muster-health
