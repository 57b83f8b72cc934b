"""One file a command of `oneprice`. Each reads its arguments, calls the rooms below, and tells what came of it."""
