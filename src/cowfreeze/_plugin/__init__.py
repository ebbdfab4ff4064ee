"""The pytest plugin behind its hooks (which stand in the package ``pytest_cowfreeze``).

    settings   what marker, options and ini keys say; wrong values are named here
    zygote     a forked child that does something and hands a value up
    measure    in it: preload, warm up, freeze, fork workers, collect
    harvest    what pytest would have reported from a body, gathered where it ran
    outcome    that as plain data, and telling it to pytest again here
    result     CowResult: the figures of one measurement
    causes     the way to WorkersResult.explain, where it exists
    marker     a test with @pytest.mark.cow
    fixtures   `cow` and `assert_no_cow`
    isolated   a test in a fresh interpreter
    verdict    limits, saved figures and the report of one test
    session    options at the start, table and files at the end
    figures    the file of saved figures

The process that runs pytest is never frozen and forks no worker itself: freezing cannot be
undone, and everything alive at that moment would stay alive for the rest of the session.

    pytest ---fork---> zygote ---fork---> witness, worker 0 .. N-1
           <--pickle-- freezes             measure themselves
                       os._exit            os._exit
"""
