"""The commands of `mmsa`, one file each: they parse, call the library and print."""
