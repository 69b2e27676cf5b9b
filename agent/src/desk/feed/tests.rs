//! Feeds from sources to followers, over real frames.
