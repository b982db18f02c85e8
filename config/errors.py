"""The one exception that means "the user can mend this"."""


class InputError(ValueError):
    """A mistake in what the program was given: a file, an option, a data set.

    The message is complete and names the file or option and the remedy. The scripts print it as one line and end with
    exit status 2; anything else that is raised is a defect of the program and keeps its traceback.
    """
