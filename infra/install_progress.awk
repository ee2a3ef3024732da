# Shortens pip's output to its progress: the packages it has found, then that it installs them.
/^Collecting /  { found++; printf "\r    found %d: %-50.50s", found, $2; fflush() }
/^Installing collected packages/ { printf "\n    unpacking them, which takes one to two minutes\n"; fflush() }
/^(ERROR|WARNING)/ { print "\n" $0; fflush() }
