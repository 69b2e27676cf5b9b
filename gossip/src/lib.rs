//! Who is in the cluster, and how that is found out.
