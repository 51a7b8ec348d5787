from wsol_utils.companion.cli import main

main()
