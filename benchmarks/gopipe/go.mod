module gopipe

go 1.24

require github.com/github/go-pipe v1.0.2

require golang.org/x/sync v0.1.0 // indirect
