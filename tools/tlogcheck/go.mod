module tlogcheck

go 1.25

require golang.org/x/mod v0.36.0
