/* For libraries that hold nothing. */
int encdiff_test_nothing(void);
int encdiff_test_nothing(void) { return 0; }
