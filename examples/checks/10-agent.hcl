# Every kind of check, in each of the three languages. All files of a folder are read, in the order of their names:
#
#   muster validate examples/checks
#   muster agent -dev -config-dir examples/checks

# A check that runs a program needs this; it covers files only.
enable_local_script_checks = true

# Output changes more often than anybody needs to know.
check_update_interval = "1m"
