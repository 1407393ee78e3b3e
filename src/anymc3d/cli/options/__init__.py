"""Options that several commands have, with one meaning and one check each."""
