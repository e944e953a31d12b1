// Package config owns the settings of a node: their names, defaults, types,
// limits and the order in which defaults, the file, the environment and flags
// override one another. It knows nothing of the packages that use them;
// cmd/appliance hands each its part.
//
// The manual of the settings is config.example.toml at the root of the tree; a
// test keeps it complete.
package config
