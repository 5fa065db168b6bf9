//! The rules of the house about the tree itself.
//!
//! Each failure says the rule, its reason and the places. A rule that is in the way is changed
//! here, in a commit of its own, with the reason; it is never worked around.

#[cfg(test)]
mod documents;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod texts;
#[cfg(test)]
mod tree;
