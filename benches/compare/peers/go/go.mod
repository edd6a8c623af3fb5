module compare

go 1.24
