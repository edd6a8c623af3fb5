module compare

go 1.23
